package browser

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Dark makes the page be shown to somebody who prefers dark colours, or light
// ones.
func (p *Page) Dark(on bool) {
	p.t.Helper()
	value := "light"
	if on {
		value = "dark"
	}
	call(p, "choosing colours", emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}},
	})
}

// Sideways are the elements that make the page wider than its window, so that
// all of it has to be moved sideways; nil where none does.
func (p *Page) Sideways() []string {
	p.t.Helper()
	var list []string
	p.eval(`(() => { const d = document.documentElement;
		if (d.scrollWidth <= d.clientWidth) return [];
		return [...document.body.querySelectorAll("*")].filter((e) => seen.shown(e) && e.getBoundingClientRect().right > d.clientWidth + 1 && !e.closest(".scroll, pre, .tabs")).slice(-3).map((e) => e.outerHTML.slice(0, 120)) })()`, &list)
	return list
}

// Shot writes a picture of the whole page as NAME-WIDTH.png, where pictures are
// wanted.
func (p *Page) Shot(name string) {
	p.t.Helper()
	if p.browser.shots == "" {
		return
	}
	// A dialog is as high as the window at most, and a page that is caught beyond
	// the window is not behind it: the window becomes as high as both.
	var height int64
	p.eval(`Math.ceil(Math.max(document.documentElement.scrollHeight, ...[...document.querySelectorAll("[role=dialog]")].map((d) => d.getBoundingClientRect().height + 110)))`, &height)
	p.do("taking a picture", chromedp.EmulateViewport(int64(p.width), max(height, int64(p.height))))
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	p.do("taking a picture", chromedp.EmulateViewport(int64(p.width), int64(p.height)))
	if err != nil {
		p.t.Fatalf("taking a picture: %v", err)
	}
	if err := os.WriteFile(filepath.Join(p.browser.shots, fmt.Sprintf("%s-%d.png", name, p.width)), png, 0o644); err != nil {
		p.t.Fatalf("writing a picture: %v", err)
	}
}
