module github.com/meshctl/meshctl/docs/pictures

go 1.26.0

require golang.org/x/image v0.34.0

require golang.org/x/text v0.32.0 // indirect
