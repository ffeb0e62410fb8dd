// Package syslog sends messages to a collector: RFC 5424 over TLS (RFC 5425).
package syslog
