package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	"moongate/e2e/peers"
	"moongate/e2e/pki"
	"moongate/e2e/world"
	"moongate/internal/gw/config"
	"moongate/internal/gw/flow"
)

// Paths of the configuration that the commits change.
const (
	forwardPath  = config.DevicePath + "/deviceconfig/setting/proxy/forward"
	decryptPath  = config.SharedPath + "/ssl-decrypt"
	profilesPath = config.VsysPath + "/profiles/decryption"
)

// applying is a gateway whose commits are tried by traffic.
type applying struct {
	*setting
	api *xmlAPI
}

func startApplying(t *testing.T, ca *pki.CA) *applying {
	t.Helper()
	a := &applying{setting: start(t, ca, world.GatewaySettings{NoECDSA: true, Allowed: []string{"127.0.0.0/8"}})}
	a.api = newXMLAPI(t, a.gateway)
	return a
}

func (a *applying) set(xpath, element string) {
	a.t.Helper()
	must(a.t, a.api.set(a.t.Context(), xpath, element))
}

func (a *applying) commit() {
	a.t.Helper()
	must(a.t, a.api.commit(a.t.Context(), ""))
}

// get fetches a page through the proxy at an address, and returns who issued
// the certificate that the client sees. Roots are those that the client has.
func (a *applying) get(proxy, target string, roots ...*x509.Certificate) (issuer string, err error) {
	a.t.Helper()
	pool := x509.NewCertPool()
	for _, root := range roots {
		pool.AddCert(root)
	}
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: proxy}), DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool},
	}}
	resp, err := client.Get("https://" + target + "/")
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	return resp.TLS.PeerCertificates[0].Issuer.CommonName, nil
}

func (a *applying) want(when, issuer, proxy, target string, roots ...*x509.Certificate) {
	a.t.Helper()
	if got, err := a.get(proxy, target, roots...); err != nil || got != issuer {
		a.t.Errorf("%s: a certificate of %q, %v; want one of %q", when, got, err, issuer)
	}
}

// freePort is a port that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	return port
}

// TestListenersAct: a listener that is committed serves, one that is taken away
// refuses, and a connection through it that is open lives on.
func TestListenersAct(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "rsa", []string{"localhost"}))
	a := startApplying(t, ca)
	target, root, first := local("localhost", origin.Address), a.gateway.Certificates["forward-trust"], a.gateway.Proxy
	port := freePort(t)
	second := net.JoinHostPort("127.0.0.1", port)
	refused := func(when, proxy string) {
		t.Helper()
		if issuer, err := a.get(proxy, target, root); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %q, %v; want the connection refused", when, issuer, err)
		}
	}
	a.want("before", "forward-trust", first, target, root)
	refused("before", second)

	// A connection that stays open over the commits.
	long, err := a.connect(target)
	must(t, err)
	defer long.Close()
	pool := x509.NewCertPool()
	pool.AddCert(root)
	session := tls.Client(long, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	must(t, session.HandshakeContext(t.Context()))
	says := func(when string) {
		t.Helper()
		must(t, session.SetDeadline(time.Now().Add(30*time.Second)))
		fmt.Fprint(session, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		answer := make([]byte, 1024)
		if n, err := session.Read(answer); err != nil || !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200") {
			t.Errorf("%s the open connection says %q, %v", when, answer[:n], err)
		}
	}
	says("before")

	a.set(forwardPath, "<entry name=\"second\"><address>127.0.0.1</address><port>"+port+"</port></entry>")
	refused("edited and not committed", second)
	a.commit()
	a.want("added", "forward-trust", second, target, root)
	a.want("beside it", "forward-trust", first, target, root)
	says("with another listener")

	must(t, a.api.delete(t.Context(), forwardPath+"/entry[@name='proxy']"))
	a.commit()
	refused("taken away", first)
	a.want("left", "forward-trust", second, target, root)
	says("with its listener taken away")

	// A port that somebody has is no reason to lose the others.
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer busy.Close()
	_, taken, err := net.SplitHostPort(busy.Addr().String())
	must(t, err)
	a.set(forwardPath, "<entry name=\"third\"><address>127.0.0.1</address><port>"+taken+"</port></entry>")
	if err := a.api.commit(t.Context(), ""); !errors.Is(err, errRefused) || !strings.Contains(err.Error(), taken) {
		t.Errorf("a commit with a port that is taken: %v", err)
	}
	a.want("after a commit that failed", "forward-trust", second, target, root)
}

// TestAuthorityActs: the CA that is chosen signs from the next connection on.
func TestAuthorityActs(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	origin := peers.NewOrigin(t, server(t, ca, "rsa", []string{"localhost"}))
	a := startApplying(t, ca)
	target, root, proxy := local("localhost", origin.Address), a.gateway.Certificates["forward-trust"], a.gateway.Proxy
	a.want("before", "forward-trust", proxy, target, root)

	_, err := a.api.op(t.Context(), "<request><certificate><generate><certificate-name>next</certificate-name><name>next-authority</name>"+
		"<ca>yes</ca><key-on-hsm>yes</key-on-hsm></generate></certificate></request>")
	must(t, err)
	answer, err := a.api.ask(t.Context(), "type", "export", "category", "certificate", "certificate-name", "next", "format", "pem")
	must(t, err)
	block, _ := pem.Decode([]byte(answer))
	if block == nil {
		t.Fatalf("no certificate in %s", answer)
	}
	next, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	a.set(decryptPath+"/forward-trust-certificate", "<rsa>next</rsa>")
	a.want("edited and not committed", "forward-trust", proxy, target, root)
	a.commit()
	a.want("chosen", "next-authority", proxy, target, next)
	if issuer, err := a.get(proxy, target, root); err == nil {
		t.Errorf("who has the old CA alone trusts what %q issued", issuer)
	}

	a.set(decryptPath+"/forward-trust-certificate", "<rsa>forward-trust</rsa>")
	a.commit()
	a.want("chosen again", "forward-trust", proxy, target, root)
}

// TestProfileActs: what a profile blocks is blocked from the next connection on.
func TestProfileActs(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	stranger, err := pki.SelfSigned([]string{"localhost"})
	must(t, err)
	origin := peers.NewOrigin(t, stranger)
	a := startApplying(t, ca)
	target, root, proxy := local("localhost", origin.Address), a.gateway.Certificates["forward-untrust"], a.gateway.Proxy
	a.want("before", "forward-untrust", proxy, target, root)

	a.set(profilesPath+"/entry[@name='strict']/ssl-forward-proxy", "<block-untrusted-issuer>yes</block-untrusted-issuer>")
	a.set(rulesPath+"/entry[@name='forward']", "<profile>strict</profile>")
	a.want("edited and not committed", "forward-untrust", proxy, target, root)
	a.commit()
	n := a.countRecords()
	if issuer, err := a.get(proxy, target, root); err == nil {
		t.Errorf("the profile lets a certificate of %q through", issuer)
	}
	r := a.recordAfter(n, func(r *flow.Record) bool { return r.Target == target && r.FailureCause != "" })
	if r.Verdict != flow.SelfSigned || r.Rule != "forward" || r.Action != "block" {
		t.Errorf("the record: verdict %q, rule %q, action %q, cause %q", r.Verdict, r.Rule, r.Action, r.FailureCause)
	}

	a.set(profilesPath+"/entry[@name='strict']/ssl-forward-proxy", "<block-untrusted-issuer>no</block-untrusted-issuer>")
	a.commit()
	a.want("allowed again", "forward-untrust", proxy, target, root)
}
