module cluster.test/images

go 1.26.0

require golang.org/x/net v0.49.0
