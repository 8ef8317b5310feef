"""The denoising autoencoder behind `encoded.customers`: the only home of torch."""
