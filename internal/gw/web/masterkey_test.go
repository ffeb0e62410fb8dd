package web

import (
	"net/http"
	"testing"
	"time"

	"moongate/internal/gw/vault"
)

// TestMasterKeyTimes: times that were given in hours are shown and kept, and
// pressing OK makes a master key live no longer than it did.
func TestMasterKeyTimes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.login("admin")
	const edit, key = masterKeyPage + "/edit", "a master key of the test"
	given := vault.Change{New: []byte(key), Lifetime: 36 * time.Hour, Reminder: 10 * time.Hour, AutoRenew: 5 * time.Hour}
	_, err := w.ChangeMasterKey(t.Context(), as("admin"), given, nil)
	must(t, err)
	properties := func() vault.Properties {
		t.Helper()
		p, err := w.MasterKey(t.Context(), as("admin"))
		must(t, err)
		return p
	}
	before := properties()
	save := func(status int, more ...string) string {
		t.Helper()
		_, page := b.get(edit)
		res, body := b.post(edit, append(more, formOn(t, page, edit)...)...)
		if res.StatusCode != status {
			t.Fatalf("%q: %d, want %d\n%s", more, res.StatusCode, status, body)
		}
		return body
	}
	_, page := b.get(edit)
	fields := formOn(t, page, edit)
	for i := 0; i+1 < len(fields); i += 2 {
		want, is := map[string]string{"lifetime": "1", "lifetime-hours": "12", "reminder": "0", "reminder-hours": "10"}[fields[i]]
		if is && fields[i+1] != want {
			t.Errorf("%s is shown as %q, want %q", fields[i], fields[i+1], want)
		}
	}
	w.Advance(20 * time.Hour)
	b = w.login("admin") // nobody is logged in for as long
	save(http.StatusSeeOther, "current", key)
	if got := properties(); got != before {
		t.Errorf("OK made %+v of %+v", got, before)
	}
	beside(t, save(http.StatusUnprocessableEntity, "current", key, "reminder", "2"), "reminder", "", "at most the life time of 1 days and 12 hours")
	save(http.StatusSeeOther, "current", key, "lifetime", "3", "lifetime-hours", "1")
	got := properties()
	if left := got.ExpireAt.Sub(w.Now()).Round(time.Minute); left != 73*time.Hour || got.Renewal != 5*time.Hour || got.ExpireAt.Sub(got.RemindAt) != 10*time.Hour {
		t.Errorf("three days and an hour made %+v, %v left", got, left)
	}
}
