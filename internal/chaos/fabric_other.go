//go:build !linux

package chaos

// fabrics gives none: other systems have neither network namespaces nor all of 127.0.0.0/8.
func fabrics(*Lab) (weaver, error) {
	return weaver{}, Skip("it needs network namespaces, or a second loopback address for proxies; only Linux has either")
}
