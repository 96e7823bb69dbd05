package files

import "crypto/tls"

// MinTLSVersion is the minimum version of TLS for all connections that use the certificates of this package: to
// domain controllers, to the engine, and between engines.
const MinTLSVersion = tls.VersionTLS12
