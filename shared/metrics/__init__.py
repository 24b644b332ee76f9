"""What has been done, counted where it happens and told in Prometheus' text format.

`declared` says what is counted; `begin` starts counting. A process that never begins counts nothing, and pays nothing.
"""
