// Package api serves a gateway's XML API over HTTPS: requests become calls of
// mgmt, its answers XML.
package api
