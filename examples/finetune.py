"""Fine-tunes an encoder on your own videos: `python examples/finetune.py VIDEOS OUT [--model M] [--weights FOLDER]`.

VIDEOS has one folder per class; a fifth of each is held out. OUT becomes a weight folder. This is plain PyTorch: change what
you like. `vie finetune` does the same with the paper's settings, checkpoints and several GPUs.
"""

import argparse
import random
from pathlib import Path

import torch
import torch.nn.functional as F

import vie_models as vie


class Clips(torch.utils.data.Dataset):
    """A random crop of a random clip of each video, and its label."""

    def __init__(self, videos: list[tuple[Path, int]], spec: vie.ClipSpec) -> None:
        self.videos, self.spec, self.transform = videos, spec, vie.train_transform(spec, "multi_scale_crop")

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        path, label = self.videos[i]
        return self.transform(vie.random_clip(path, self.spec)), label


def main() -> None:
    """Trains, and prints after every epoch how many held-out videos are classified correctly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder with one folder of videos per class")
    parser.add_argument("out", type=Path, help="weight folder to write")
    parser.add_argument("--model", default="vie_3dresnet", help="name of the model")
    parser.add_argument("--weights", help="weights, as checkpoint_path of create_model (default: the published ones)")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training videos")
    parser.add_argument("--batch-size", type=int, default=16, help="clips per step")
    parser.add_argument("--lr", type=float, default=0.005, help="initial learning rate")
    parser.add_argument("--workers", type=int, default=2, help="processes that read videos")
    args = parser.parse_args()

    torch.manual_seed(0)
    classes = sorted(path.name for path in args.videos.iterdir() if path.is_dir())
    train, held_out = [], []
    for label, name in enumerate(classes):
        paths = sorted((args.videos / name).iterdir())
        random.Random(0).shuffle(paths)
        held_out += [(path, label) for path in paths[::5]]
        train += [(path, label) for i, path in enumerate(paths) if i % 5]

    model = vie.create_model(args.model, pretrained=args.weights is None, checkpoint_path=args.weights)
    model.reset_classifier(len(classes))
    for module in model.modules():
        if hasattr(module, "momentum"):  # batch norms: the original's 0.003 is too slow for a short run
            module.momentum = 0.1
    device = "cuda" if torch.cuda.is_available() else "cpu"
    context = "forkserver" if args.workers else None  # decoders do not survive a fork
    options = {"batch_size": args.batch_size, "num_workers": args.workers, "multiprocessing_context": context}
    loader = torch.utils.data.DataLoader(Clips(train, model.clip_spec), shuffle=True, **options)
    optimizer = torch.optim.SGD(model.to(device).parameter_groups(1e-5), lr=args.lr, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs)
    for epoch in range(args.epochs):
        model.train()
        for x, labels in loader:
            loss = F.cross_entropy(model(x.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        named = vie.Extractor(model, clips=5, workers=args.workers).results([path for path, _ in held_out])
        right = sum(arrays["embedding"].mean(0).argmax() == held_out[i][1] for i, _, arrays in named if arrays is not None)
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}; {right} of {len(held_out)} held-out videos are classified correctly")
    vie.save_pretrained(model, args.out)


if __name__ == "__main__":
    main()
