"""One row per model and number of clusters that was tried: the evidence for the number that was chosen.

Input: encoded.customers of the day the model is first clustered on; at most `segment.sample` active customers, chosen
by a hash of their id, so that the choice does not depend on order or partitions. Only written once per model.
"""

from jobs.lake import Table

SCHEMA = """
    model_version STRING COMMENT 'Version of the encoder whose vectors were clustered',
    k INT COMMENT 'Number of clusters',
    day DATE COMMENT 'Day whose active customers were clustered',
    n_customers BIGINT COMMENT 'Customers in the sample',
    wss DOUBLE COMMENT 'Within-cluster sum of squared distances, the best of the seeds',
    silhouette DOUBLE COMMENT 'Mean silhouette on squared Euclidean distances, -1 to 1',
    smallest_share DOUBLE COMMENT 'Share of the sample in the smallest cluster, 0 to 1',
    davies_bouldin DOUBLE COMMENT 'Davies-Bouldin index, lower is better; null where not computed',
    stability DOUBLE COMMENT 'Mean adjusted Rand index over resamples; null where not computed',
    refused_by STRING COMMENT 'The rule that refused this k; null: accepted',
    chosen BOOLEAN COMMENT 'Whether this k was clustered and published'
"""
TABLE = Table(
    "segments.candidates",
    "One row per model and number of clusters tried: the evidence for the number chosen.",
    SCHEMA,
    checks={"k_positive": "k > 0"},
)
