package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"moongate/internal/hsm/object"
)

// attackCommand is what this program is run as by itself.
const attackCommand = "attack"

// order tells an attacker's process what to do. It reads it from its standard
// input, and attacks until that ends.
type order struct {
	Hostile          string
	Address          string
	Certificate, Key []byte // DER
	Pinned           []byte
	Role             object.Role
	Password         string
	Object           object.ID
}

// start begins an attack; the function that it returns ends it.
func (o order) start(ctx context.Context) (func(), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, attackCommand)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := in.Write(append(raw, '\n')); err != nil {
		return nil, err
	}
	return func() {
		in.Close()
		_ = cmd.Wait() // it is of no interest how an attacker ends
	}, nil
}

// attack is the attacker's process. It yields the processors to everybody else:
// what it takes from the HSM is measured, not what it takes from the probe by
// sharing a machine with it.
func attack(in io.Reader) {
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19)
	decoder := json.NewDecoder(in)
	var o order
	if err := decoder.Decode(&o); err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1)
	}
	key, err := x509.ParsePKCS8PrivateKey(o.Key)
	if err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	own := tls.Certificate{Certificate: [][]byte{o.Certificate}, PrivateKey: key}
	t := &target{
		address: o.Address, role: o.Role, pass: o.Password, key: o.Object,
		dial: func(ctx context.Context) (*connection, error) { return dial(ctx, o.Address, own, o.Pinned) },
	}
	for _, h := range hostiles {
		if h.name == o.Hostile {
			h.run(ctx, t)
		}
	}
}
