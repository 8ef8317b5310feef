"""The denoising autoencoder behind `encoded.customers`: the only package that imports torch.

Shapes are written as in scikit-learn, with these sizes:

| size         | counts |
|---|---|
| n_customers  | customers of a day, or of one of its splits |
| n_rows       | customers of a batch or of another part |
| n_features   | numbers of a customer in `features.customers` |
| n_attributes | text columns of a customer in `features.customers` |
| n_inputs     | columns that the network sees, after preprocessing |
| n_latent     | dimensions of the vector |
| n_clusters   | cluster centres |
"""
