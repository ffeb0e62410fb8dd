package browser

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// traffic is what a page asked for, and what went wrong in it.
type traffic struct {
	mu      sync.Mutex
	bytes   float64 // of answers, with their headers, as they were sent; guarded by mu
	pending map[network.RequestID]bool
	loader  cdp.LoaderID // of the page that is loaded; guarded by mu
	last    time.Time    // when something came or went last; guarded by mu
	faults  []string     // guarded by mu
}

// listen hears what the page does from now on.
func (p *Page) listen() error {
	n := &traffic{pending: map[network.RequestID]bool{}}
	p.network = n
	server := p.browser.server
	err := chromedp.Listen(p.ctx, func(event any) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.last = time.Now()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if string(e.RequestID) == string(e.LoaderID) { // another page; what the last one waited for is given up
				clear(n.pending)
				n.bytes, n.loader = 0, e.LoaderID
			}
			if e.LoaderID == n.loader { // not one that the last page sent while it was left
				n.pending[e.RequestID] = true
			}
			if at := e.Request.URL; !strings.HasPrefix(at, server+"/") && !strings.HasPrefix(at, "data:") && at != "about:blank" {
				n.faults = append(n.faults, "it asks another server: "+at)
			}
		case *network.EventLoadingFinished:
			delete(n.pending, e.RequestID)
			n.bytes += e.EncodedDataLength
		case *network.EventLoadingFailed:
			delete(n.pending, e.RequestID)
			if e.BlockedReason != "" {
				n.faults = append(n.faults, "blocked: "+e.BlockedReason.String())
			}
		case *runtime.EventExceptionThrown:
			n.faults = append(n.faults, "a script failed: "+(&chromedp.ExceptionError{ExceptionDetails: e.ExceptionDetails}).Error())
		case *log.EventEntryAdded:
			// Answers with an error status are entries, too; the test that sends
			// wrong values wants those.
			if e.Entry.Source == log.EntrySourceSecurity || strings.Contains(e.Entry.Text, "Content Security Policy") {
				n.faults = append(n.faults, e.Entry.Text)
			}
		}
	})
	if err != nil {
		return err
	}
	if _, err := chromedp.Call(p.ctx, network.Enable, network.EnableParams{}); err != nil {
		return err
	}
	_, err = chromedp.Call(p.ctx, log.Enable, cdp.Empty{})
	return err
}

// blameless fails the test where the page did what it must not.
func (p *Page) blameless() {
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	slices.Sort(p.network.faults)
	for _, fault := range slices.Compact(p.network.faults) {
		p.t.Errorf("the page: %s", fault)
	}
}

// quiet is how long nothing comes or goes when a page is loaded.
const quiet = 2 * time.Second

// Weight loads an address as at the first visit, and returns the bytes that came
// over the wire, headers included, with everything the page consists of.
func (p *Page) Weight(path string) int {
	p.t.Helper()
	call(p, "emptying the cache", network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true})
	p.Open(path)
	p.until("loading "+path, func() error {
		p.network.mu.Lock()
		defer p.network.mu.Unlock()
		// The browser does not tell the end of each request that a page gave up.
		if len(p.network.pending) > 0 && time.Since(p.network.last) < quiet {
			return errLoading
		}
		return nil
	})
	time.Sleep(50 * time.Millisecond) // what the page's script asks for
	call(p, "using the cache", network.SetCacheDisabled, network.SetCacheDisabledParams{})
	p.network.mu.Lock()
	defer p.network.mu.Unlock()
	return int(p.network.bytes)
}
