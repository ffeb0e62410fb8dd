package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"moongate/client"
	"moongate/internal/durable"
)

// clientMade is what `cmu client init` made, for people and for scripts.
type clientMade struct {
	Name        string `json:"name"`
	Config      string `json:"config"`
	Certificate string `json:"certificate"`
	Key         string `json:"key"`
	Fingerprint string `json:"fingerprint"`
	// Register is the command line for the HSM.
	Register string `json:"register"`
}

// settings reads the client configuration that the options name. It returns
// the file's absolute path and what is in it.
func (t *tool) settings(o options) (string, settings, error) {
	path, err := t.configPath(o)
	if err != nil {
		return "", settings{}, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", settings{}, err
	}
	s, err := readSettings(path)
	return path, s, err
}

func (t *tool) clientInit(_ context.Context, o options) error {
	path, s, err := t.settings(o)
	if err != nil {
		return err
	}
	if (s.Client != clientSettings{}) && !o.flag("force", false) {
		return &fixError{
			fmt.Errorf("%s has a client certificate already, %s of %q", path, s.Client.Certificate, s.Client.Name),
			"use it; or replace it with -force, and register the new one with the HSM",
		}
	}
	address, option, err := t.clientAddress(o, s.Server.Address)
	if err != nil {
		return err
	}
	name, err := t.clientName(o)
	if err != nil {
		return err
	}
	certificate, key, err := client.NewCertificate(name, address)
	if err != nil {
		return err
	}
	if err := makeConfigDir(path); err != nil {
		return err
	}
	base := fileName(address)
	s.Client = clientSettings{Name: name, Certificate: base + ".pem", Key: base + "-key.pem"}
	made := clientMade{
		Name: name, Config: path,
		Certificate: filepath.Join(filepath.Dir(path), s.Client.Certificate),
		Key:         filepath.Join(filepath.Dir(path), s.Client.Key),
		Register:    fmt.Sprintf("client register -c %s -%s %s -certificate %s", name, option, address, s.Client.Certificate),
	}
	for _, file := range []string{made.Certificate, made.Key} {
		if err := mayWrite(file, o); err != nil {
			return err // another configuration's, beside this one
		}
	}
	// The configuration last: it never names files that are not there.
	if err := durable.WriteFile(made.Key, key, 0o600); err != nil {
		return fmt.Errorf("writing the client's key: %w", err)
	}
	if err := durable.WriteFile(made.Certificate, certificate, 0o644); err != nil {
		return fmt.Errorf("writing the client's certificate: %w", err)
	}
	if err := s.write(path); err != nil {
		return err
	}
	list, err := client.LoadCertificates(made.Certificate)
	if err != nil {
		return err
	}
	made.Fingerprint = client.Fingerprint(list[0].Raw)
	if o.flag("json", false) {
		return t.con.printJSON(made)
	}
	t.con.printf("%s", nextSteps(made, s.Server != serverSettings{}))
	return nil
}

// fileName is the file name of what belongs to an address. For scp a colon, as
// in IPv6, parts hosts from paths.
func fileName(address string) string { return strings.ReplaceAll(address, ":", "_") }

// clientAddress returns the address or host name that the HSM sees us under,
// and the option of `client register` that it goes with.
func (t *tool) clientAddress(o options, server string) (address, option string, err error) {
	switch {
	case o.has("ip") && o.has("hostname"):
		return "", "", &usageError{"-ip and -hostname exclude each other"}
	case o.has("ip"):
		ip, err := netip.ParseAddr(o.text("ip"))
		if err != nil {
			return "", "", &usageError{fmt.Sprintf("-ip=%s is not an IP address; a name goes with -hostname=", o.text("ip"))}
		}
		return ip.Unmap().WithZone("").String(), "ip", nil
	case o.has("hostname"):
		address = o.text("hostname")
	case server != "":
		guess := addressToward(server)
		if guess == "" {
			address, err = t.con.ask(promptAddress)
		} else {
			address, err = t.con.askOr("Address that the HSM sees this host come from", guess)
		}
	default:
		address, err = t.con.ask(promptAddress)
	}
	if err != nil {
		return "", "", &fixError{err, "give -ip= or -hostname="}
	}
	if ip, err := netip.ParseAddr(address); err == nil {
		return ip.Unmap().WithZone("").String(), "ip", nil
	}
	if !isHostName(address) {
		return "", "", &usageError{fmt.Sprintf("%q is neither an IP address nor a host name", address)}
	}
	return strings.ToLower(address), "hostname", nil
}

// addressToward is the address that this host would call the HSM from. Nothing
// is sent.
func addressToward(server string) string {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = strings.Trim(server, "[]"), client.DefaultPort
	}
	conn, err := net.Dial("udp", net.JoinHostPort(host, port))
	if err != nil {
		return ""
	}
	defer conn.Close()
	local, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return ""
	}
	return local.Addr().Unmap().WithZone("").String()
}

func (t *tool) clientName(o options) (string, error) {
	name := o.text("name")
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", &fixError{fmt.Errorf("reading this host's name: %w", err), "give -name="}
		}
		if name, err = t.con.askOr("Name of this client", host); err != nil {
			return "", err
		}
	}
	// It has to stand unquoted in the line for the HSM.
	if len(name) > 64 || !isWord(name) {
		return "", &usageError{fmt.Sprintf("the client's name %q should be 1 to 64 letters, digits, dots, dashes and underscores", name)}
	}
	return name, nil
}

func isWord(s string) bool {
	return s != "" && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	})
}

// hostOf is an address without its port.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}

func isAddress(s string) bool {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return true
	}
	if host, port, err := net.SplitHostPort(s); err == nil {
		if n, err := net.LookupPort("tcp", port); err != nil || n == 0 {
			return false
		}
		s = host
	}
	_, err := netip.ParseAddr(s)
	return err == nil || isHostName(s)
}

// isHostName reports whether s has the form of a host name (RFC 1123, section
// 2.1).
func isHostName(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}
