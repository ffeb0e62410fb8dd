package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"moongate/bench/peer"
	"moongate/bench/testca"
)

const nginxPackage = "nginx-light"

// nginxConfig terminates TLS for inboundName on four ports: each key, with a
// new upstream connection per request and with a pool of kept ones. Upstream
// sessions are resumed and the upstream's chain is verified. Of the ways to
// buffer bodies tried in turns, none at all is the fastest.
const nginxConfig = `
daemon off;
{user}
worker_processes auto;
pid {dir}/pid;
error_log {dir}/error.log;
events { worker_connections 4096; }
http {
	access_log {dir}/access.log;
	client_body_temp_path {dir}/body;
	proxy_temp_path {dir}/proxy;
	fastcgi_temp_path {dir}/fastcgi;
	uwsgi_temp_path {dir}/uwsgi;
	scgi_temp_path {dir}/scgi;
	keepalive_requests 1000000;
	ssl_protocols TLSv1.2 TLSv1.3;
	proxy_http_version 1.1;
	proxy_buffering off;
	proxy_buffer_size 64k;
	proxy_buffers 8 64k;
	proxy_ssl_server_name on;
	proxy_ssl_name {name};
	proxy_ssl_session_reuse on;
	proxy_ssl_protocols TLSv1.2 TLSv1.3;
	proxy_ssl_verify on;
	proxy_ssl_trusted_certificate {dir}/origin-ca.pem;
	upstream pool { server {origin}; keepalive 64; keepalive_requests 1000000; }
{servers}
}
`

const nginxServer = `
	server {
		listen {addr} ssl;
		server_name {name};
		ssl_certificate {dir}/{kind}.pem;
		ssl_certificate_key {dir}/{kind}.key;
		location / { proxy_pass https://{upstream}; proxy_set_header Host {name}; proxy_set_header Connection "{connection}"; }
	}
`

// startNginx runs Debian's nginx with the keys in files. It is two contestants:
// one dials the origin for each request, one keeps connections to it.
func startNginx(ctx context.Context, s setting) (dialling, pooled *contestant, err error) {
	if err := peer.Install(ctx, nginxPackage); err != nil {
		return nil, nil, err
	}
	versions, err := peer.Versions(ctx, nginxPackage)
	if err != nil {
		return nil, nil, err
	}
	dir := filepath.Join(s.dir, "nginx")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("making nginx's directory: %w", err)
	}
	roots, err := nginxFiles(dir, s.origin.CA)
	if err != nil {
		return nil, nil, err
	}
	addrs, err := peer.FreeAddrs(4)
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, "nginx.conf")
	if err := peer.WriteFiles(map[string][]byte{path: []byte(nginxText(dir, s.origin.Addr, addrs))}); err != nil {
		return nil, nil, err
	}
	process, err := peer.Start(ctx, "nginx", addrs, "nginx", "-p", dir, "-e", filepath.Join(dir, "start.log"), "-c", path)
	if err != nil {
		return nil, nil, err
	}
	dialling = &contestant{
		name: "nginx", version: nginxPackage + " " + versions[nginxPackage],
		watch:     map[string]int{"nginx": process.PID},
		inboundEC: addrs[0], inboundRSA: addrs[1], inboundRoots: roots,
		close: func() error { process.Stop(); return nil },
	}
	pooled = &contestant{
		name: "nginx+pool", version: dialling.version, watch: dialling.watch,
		inboundEC: addrs[2], inboundRSA: addrs[3], inboundRoots: roots,
		close: func() error { return nil }, // the same process
	}
	return dialling, pooled, nil
}

func nginxText(dir, origin string, addrs []string) string {
	var servers strings.Builder
	for i, addr := range addrs {
		kind, upstream, connection := []string{"ec", "rsa"}[i%2], origin, "close"
		if i >= 2 {
			upstream, connection = "pool", ""
		}
		servers.WriteString(strings.NewReplacer("{addr}", addr, "{kind}", kind, "{upstream}", upstream,
			"{connection}", connection).Replace(nginxServer))
	}
	account := ""
	if os.Geteuid() == 0 {
		account = "user root;" // the workers read nothing but the private directory
	}
	text := strings.ReplaceAll(nginxConfig, "{servers}", servers.String())
	return strings.NewReplacer("{dir}", dir, "{origin}", origin, "{name}", inboundName, "{user}", account).Replace(text)
}

// nginxFiles makes the two server certificates and returns their CA's.
func nginxFiles(dir string, originCA []byte) ([]byte, error) {
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating nginx's P-256 key: %w", err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("generating nginx's RSA key: %w", err)
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating the inbound CA's key: %w", err)
	}
	files := map[string][]byte{filepath.Join(dir, "origin-ca.pem"): originCA}
	ca, err := testca.New("bench inbound CA", caKey)
	if err != nil {
		return nil, err
	}
	for kind, key := range map[string]crypto.Signer{"ec": ecKey, "rsa": rsaKey} {
		der, err := ca.Issue(key.Public(), inboundName)
		if err != nil {
			return nil, err
		}
		keyPEM, err := testca.EncodeKey(key)
		if err != nil {
			return nil, err
		}
		files[filepath.Join(dir, kind+".pem")] = testca.EncodeCertificate(der)
		files[filepath.Join(dir, kind+".key")] = keyPEM
	}
	return ca.PEM(), peer.WriteFiles(files)
}
