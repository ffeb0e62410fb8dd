package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
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
	// squidRun is where the workers of a Squid find each other: a directory
	// that is compiled in.
	squidRun = "/run/squid"
)

// squidConfig bumps every tunnel after the server's certificate is seen, so
// that the leaf mirrors it, as the other contestants do. One port has an
// RSA-2048 CA, one a P-256 CA. Logging stays on: all contestants log. Of the
// settings tried in turns, these are the fastest: leaves kept in memory alone,
// few certificate helpers, a worker for each core.
const squidConfig = `
workers {workers}
memory_cache_shared off
visible_hostname bench
pid_filename none
coredump_dir {dir}
cache_effective_user {user}
http_port {ec} ssl-bump tls-cert={dir}/ca-ec.pem generate-host-certificates=on dynamic_cert_mem_cache_size=64MB
http_port {rsa} ssl-bump tls-cert={dir}/ca-rsa.pem generate-host-certificates=on dynamic_cert_mem_cache_size=64MB
sslcrtd_program {certgen}
sslcrtd_children 2 startup=2 idle=1 queue-size=1024
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
	account, err := squidAccount()
	if err != nil {
		return nil, err
	}
	addrs, err := peer.FreeAddrs(2)
	if err != nil {
		return nil, err
	}
	config := strings.NewReplacer("{dir}", dir, "{user}", account.name, "{workers}", strconv.Itoa(account.workers),
		"{certgen}", squidCertgen, "{ec}", addrs[0], "{rsa}", addrs[1]).Replace(squidConfig)
	path := filepath.Join(dir, "squid.conf")
	if err := peer.WriteFiles(map[string][]byte{path: []byte(config)}); err != nil {
		return nil, err
	}
	if err := account.give(dir); err != nil {
		return nil, err
	}
	service := fmt.Sprintf("bench%d", os.Getpid())
	process, err := peer.Start(ctx, "squid", addrs, "squid", account.mode, "-n", service, "-f", path)
	if err != nil {
		return nil, errors.Join(err, removeSockets(service))
	}
	return &contestant{
		name: "squid", version: fmt.Sprintf("%s %s (%d workers)", squidPackage, versions[squidPackage], account.workers),
		watch:     map[string]int{"squid": process.PID},
		forwardEC: addrs[0], forwardRSA: addrs[1], forwardRoots: roots,
		close: func() error { process.Stop(); return removeSockets(service) },
	}, nil
}

// squidRunDirectory makes the run directory, as the package would at boot.
func squidRunDirectory(uid int) error {
	if err := os.Mkdir(squidRun, 0o755); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("making Squid's run directory: %w", err)
	}
	return os.Chown(squidRun, uid, -1)
}

// removeSockets removes what Squid leaves in its run directory.
func removeSockets(service string) error {
	sockets, err := filepath.Glob(filepath.Join(squidRun, service+"-*.ipc"))
	for _, path := range sockets {
		err = errors.Join(err, os.Remove(path))
	}
	return err
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

// account is what Squid runs as.
type account struct {
	name    string
	uid     int
	workers int
	mode    string // -N is the foreground with one worker
}

// squidAccount chooses the account. Only root has another to become, and can
// give it the run directory that several workers need.
func squidAccount() (account, error) {
	if os.Geteuid() != 0 {
		me, err := user.Current()
		if err != nil {
			return account{}, fmt.Errorf("finding this account's name: %w", err)
		}
		return account{name: me.Username, uid: os.Geteuid(), workers: 1, mode: "-N"}, nil
	}
	found, err := user.Lookup(squidUser)
	if err != nil {
		return account{}, fmt.Errorf("finding Squid's account: %w", err)
	}
	uid, err := strconv.Atoi(found.Uid)
	if err != nil {
		return account{}, fmt.Errorf("finding Squid's account: %w", err)
	}
	if err := squidRunDirectory(uid); err != nil {
		return account{}, err
	}
	return account{name: squidUser, uid: uid, workers: runtime.NumCPU(), mode: "--foreground"}, nil
}

// give makes the account the owner of a directory and its files, and lets it
// pass through the directory's parent.
func (a account) give(dir string) error {
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		return fmt.Errorf("opening the way to Squid's directory: %w", err)
	}
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, a.uid, -1)
	})
	if err != nil {
		return fmt.Errorf("giving Squid its directory: %w", err)
	}
	return nil
}
