// Package manifests checks configs/kubernetes against the types of Kubernetes. It is a
// module of its own, so that meshctl does not depend on these.
package manifests
