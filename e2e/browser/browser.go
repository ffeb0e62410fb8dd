// Package browser drives headless Chromium as a person would: it presses what
// bears a label, types into what a label names, and reads what is shown. A
// step names no element by anything that cannot be seen or heard.
//
//	b := browser.Start(t, "https://127.0.0.1:1234")
//	p := b.Page(1280, 800)
//	p.Open("/login")
//	p.Fill("Name", "admin")
//	p.Press("Log In")
//	p.Sees("Dashboard")
//
// A step that cannot be done within Patience fails the test, with what the page
// shows. So does, at its end, a script that failed, an element that the page's
// own policy refused, and a request to another server.
package browser

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
)

// Patience is how long a step waits for what it needs.
const Patience = 15 * time.Second

// TB is what a browser needs of a test.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	TempDir() string
}

// Browser is one process of Chromium, for one server. Its pages share nothing.
type Browser struct {
	t       TB
	ctx     context.Context
	server  string // https://host:port
	files   string // directory of what is downloaded
	shots   string // directory of screenshots; "" for none
	profile string
}

// Start starts Chromium for the server at an address, https://host:port. It
// trusts the certificate that the server has now and no other one of those that
// no authority vouches for. Both end with the test. Screenshots go to the
// directory $MOONGATE_SCREENSHOTS where that is set.
func Start(t TB, server string) *Browser {
	t.Helper()
	pin, err := pinOf(server)
	if err != nil {
		t.Fatalf("starting a browser: %v", err)
	}
	b := &Browser{t: t, server: server, files: t.TempDir(), shots: os.Getenv("MOONGATE_SCREENSHOTS")}
	if b.shots != "" {
		if err := os.MkdirAll(b.shots, 0o755); err != nil {
			t.Fatalf("starting a browser: %v", err)
		}
	}
	// Not below the test's directory: Chromium's helpers may write for a moment
	// after it has ended.
	if b.profile, err = os.MkdirTemp("", "browser-"); err != nil {
		t.Fatalf("starting a browser: %v", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.UserDataDir(b.profile), chromedp.Env("HOME="+b.profile),
		chromedp.Flag("ignore-certificate-errors-spki-list", pin),
		chromedp.Flag("disable-gpu", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("lang", "en"), chromedp.WSURLReadTimeout(time.Minute))
	allocated, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(allocated)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("ending the browser: %v", err)
		}
		end()
		stop()
		for range 50 {
			if err = os.RemoveAll(b.profile); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("removing the browser's profile: %v", err)
	})
	b.ctx = ctx
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting a browser: %v", err)
	}
	return b
}

// pinOf is the SHA-256 of the public key of the server's certificate, as
// Chromium wants it.
func pinOf(server string) (string, error) {
	at, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	conn, err := tls.Dial("tcp", at.Host, &tls.Config{InsecureSkipVerify: true}) // what it has is what is pinned
	if err != nil {
		return "", err
	}
	defer conn.Close()
	sum := sha256.Sum256(conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// Page opens a page of its own, with no cookie, width by height pixels large.
func (b *Browser) Page(width, height int) *Page { return b.PageFor(b.t, width, height) }

// PageFor is Page in another test, with which the page ends.
func (b *Browser) PageFor(t TB, width, height int) *Page {
	t.Helper()
	ctx, end := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(end)
	p := &Page{t: t, browser: b, ctx: ctx, width: width, height: height}
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(int64(width), int64(height))); err != nil {
		t.Fatalf("opening a page: %v", err)
	}
	if err := p.listen(); err != nil {
		t.Fatalf("listening to a page: %v", err)
	}
	_, err := chromedp.CallBrowser(ctx, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{
		Behavior: browser.SetDownloadBehaviorBehaviorAllowAndName, BrowserContextID: chromedp.FromContext(ctx).BrowserContextID,
		DownloadPath: b.files, EventsEnabled: new(true),
	})
	if err != nil {
		t.Fatalf("taking downloads: %v", err)
	}
	t.Cleanup(p.blameless)
	return p
}

// do runs steps of the protocol that must succeed.
func (p *Page) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	ctx, end := context.WithTimeout(p.ctx, 2*Patience)
	defer end()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
}

// call runs a command of the protocol that must succeed.
func call[P, R any](p *Page, what string, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	ctx, end := context.WithTimeout(p.ctx, 2*Patience)
	defer end()
	r, err := chromedp.Call(ctx, command, params)
	if err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
	return r
}

func (b *Browser) address(path string) string { return fmt.Sprint(b.server, path) }
