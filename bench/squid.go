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
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"moongate/bench/peer"
	"moongate/bench/testca"
)

const (
	squidPackage = "squid-openssl"
	squidCertgen = "/usr/lib/squid/security_file_certgen"
	// squidUser is what Squid becomes when it is started by root; it refuses
	// to stay root.
	squidUser = "proxy"
)

// squidConfig bumps every tunnel after the server's certificate is seen, so
// that the leaf mirrors it, as the other contestants do. One port has an
// RSA-2048 CA, one a P-256 CA. Logging stays on: all contestants log.
const squidConfig = `
visible_hostname bench
pid_filename none
coredump_dir {dir}
cache_effective_user {user}
http_port {ec} ssl-bump tls-cert={dir}/ca-ec.pem generate-host-certificates=on dynamic_cert_mem_cache_size=64MB
http_port {rsa} ssl-bump tls-cert={dir}/ca-rsa.pem generate-host-certificates=on dynamic_cert_mem_cache_size=64MB
sslcrtd_program {certgen} -s {dir}/leaves -M 64MB
sslcrtd_children 8 startup=4 idle=2
tls_outgoing_options cafile={dir}/origin-ca.pem default-ca=off
acl step1 at_step SslBump1
acl step2 at_step SslBump2
ssl_bump peek step1
ssl_bump stare step2
ssl_bump bump all
http_access allow all
cache deny all
cache_mem 8 MB
access_log stdio:{dir}/access.log
cache_log {dir}/cache.log
cache_store_log none
dns_nameservers 127.0.0.1
pinger_enable off
shutdown_lifetime 0 seconds
`

// startSquid runs Debian's Squid as a forward proxy with its CA keys in files.
func startSquid(ctx context.Context, s setting) (*contestant, error) {
	if err := peer.Install(ctx, squidPackage); err != nil {
		return nil, err
	}
	versions, err := peer.Versions(ctx, squidPackage)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, "squid")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making Squid's directory: %w", err)
	}
	roots, err := squidFiles(dir, s.origin.CA)
	if err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, squidCertgen, "-c", "-s", filepath.Join(dir, "leaves"), "-M", "64MB").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("making Squid's certificate directory: %w: %s", err, out)
	}
	account, err := squidAccount(s.dir, dir)
	if err != nil {
		return nil, err
	}
	addrs, err := peer.FreeAddrs(2)
	if err != nil {
		return nil, err
	}
	config := strings.NewReplacer("{dir}", dir, "{user}", account, "{certgen}", squidCertgen,
		"{ec}", addrs[0], "{rsa}", addrs[1]).Replace(squidConfig)
	path := filepath.Join(dir, "squid.conf")
	if err := peer.WriteFiles(map[string][]byte{path: []byte(config)}); err != nil {
		return nil, err
	}
	process, err := peer.Start(ctx, "squid", addrs, "squid", "-N", "-f", path)
	if err != nil {
		return nil, err
	}
	return &contestant{
		name: "squid", version: squidPackage + " " + versions[squidPackage],
		watch:     map[string]int{"squid": process.PID},
		forwardEC: addrs[0], forwardRSA: addrs[1], forwardRoots: roots,
		close: process.Stop,
	}, nil
}

// squidFiles makes the two CAs and returns their certificates.
func squidFiles(dir string, originCA []byte) ([]byte, error) {
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating Squid's P-256 key: %w", err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("generating Squid's RSA key: %w", err)
	}
	files := map[string][]byte{filepath.Join(dir, "origin-ca.pem"): originCA}
	var roots []byte
	for kind, key := range map[string]crypto.Signer{"ec": ecKey, "rsa": rsaKey} {
		ca, err := testca.New("squid "+kind+" CA", key)
		if err != nil {
			return nil, err
		}
		keyPEM, err := testca.EncodeKey(key)
		if err != nil {
			return nil, err
		}
		files[filepath.Join(dir, "ca-"+kind+".pem")] = append(ca.PEM(), keyPEM...)
		roots = append(roots, ca.PEM()...)
	}
	return roots, peer.WriteFiles(files)
}

// squidAccount gives Squid's account its files, when there is another to
// become: dir's own, and the right to pass through its parent.
func squidAccount(parent, dir string) (string, error) {
	if os.Geteuid() != 0 {
		me, err := user.Current()
		if err != nil {
			return "", fmt.Errorf("finding this account's name: %w", err)
		}
		return me.Username, nil
	}
	account, err := user.Lookup(squidUser)
	if err != nil {
		return "", fmt.Errorf("finding Squid's account: %w", err)
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		return "", fmt.Errorf("finding Squid's account: %w", err)
	}
	if err := os.Chmod(parent, 0o711); err != nil {
		return "", fmt.Errorf("opening the way to Squid's directory: %w", err)
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, -1)
	})
	if err != nil {
		return "", fmt.Errorf("giving Squid its directory: %w", err)
	}
	return squidUser, nil
}
