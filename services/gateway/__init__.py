"""HTTP and a web page: submits tasks, shows their progress, serves their reports. It runs none of them."""
