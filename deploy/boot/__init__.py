"""What a cluster's machines boot from: the user data, and the files that it fetches."""
