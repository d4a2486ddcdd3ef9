"""`python -m pixelprior.cli`, which accelerate and torchrun start in each process."""

from pixelprior.cli import main

if __name__ == "__main__":
    main()
