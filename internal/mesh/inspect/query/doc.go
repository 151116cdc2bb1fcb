// Package query has the two small languages of watching: filters, which choose rows
// (`worker=billing and age>200ms`), and assertions, which judge a mesh
// (`variants(worker)>=3 and errors()=0`). Both are compiled once; errors say where.
package query
