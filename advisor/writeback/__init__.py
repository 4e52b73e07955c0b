"""Write-back: a plan becomes changes of manifests on a git branch, one value at a time."""
