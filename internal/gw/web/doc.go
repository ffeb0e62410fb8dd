// Package web is a gateway's web UI: pages made here, by templ, and brought up
// to date by htmx. It decides nothing and keeps nothing but sessions: what it
// shows and does, it asks mgmt for.
//
// Every page has an address of its own, works without a script, and is a row of
// a route table, which says what an administrator must be allowed to do to see
// it in the menu. Scripts, styles and icons are embedded; nothing is asked of
// any other host, and the Content-Security-Policy allows no other.
//
// Forms are answered by the same page with the errors beside the fields and
// everything typed still there, but for secrets.
package web

//go:generate go run github.com/a-h/templ/cmd/templ@v0.3.1100 generate
