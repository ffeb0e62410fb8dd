package web

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"moongate/internal/gw/admin"
	"moongate/internal/gw/mgmt"
	"moongate/internal/gw/vault"
)

// Device > Master Key and Diagnostics.

const masterKeyPage = "/device/master-key"

func masterKeyRoutes() []route {
	return []route{
		{"GET " + masterKeyPage, func(v *visit) error { return v.showMasterKey(0, nil, nil) }},
		{"GET " + masterKeyPage + "/edit", func(v *visit) error { return v.showMasterKey(0, masterKeyForm, nil) }},
		{"POST " + masterKeyPage + "/edit", changeMasterKey},
		{"GET " + masterKeyPage + "/rotate", func(v *visit) error { return v.showMasterKey(0, rotateForm, nil) }},
		{"POST " + masterKeyPage + "/rotate", rotateWrappingKey},
		{"GET " + masterKeyPage + "/recover", func(v *visit) error { return v.showMasterKey(0, recoverForm, nil) }},
		{"POST " + masterKeyPage + "/recover", recoverMasterKey},
	}
}

// Bounds of a master key's times, in days.
const (
	maxLifeDays     = 730
	maxReminderDays = 365
	day             = 24 * time.Hour
)

type masterKeyData struct {
	Properties vault.Properties
	State      vault.State
	Now        time.Time
	Keys       []mgmt.WrappingKeyState
	KeysCause  error // why the HSM cannot be asked for them
	May        bool
	Locked     bool
	Token      string
}

func (v *visit) showMasterKey(status int, over func(masterKeyData, *Form) templ.Component, f *Form) error {
	p, err := v.m().MasterKey(v.ctx(), v.who())
	if err != nil {
		return err
	}
	d := masterKeyData{Properties: p, Now: v.h.now(), State: p.State(v.h.now()), May: v.may(admin.OpMasterKey), Locked: v.m().VaultLocked(), Token: v.s.token}
	if d.Keys, d.KeysCause, err = v.m().WrappingKeys(v.ctx(), v.who()); err != nil {
		return err
	}
	var dialog templ.Component
	if over != nil {
		if f == nil {
			f = blank()
			life, reminder := timesShown(p)
			setTime(f, "lifetime", life)
			setTime(f, "reminder", reminder)
			if p.OnHSM {
				f.values.Set("on-hsm", "yes")
			}
		}
		dialog = over(d, f)
	}
	return v.page(Page{Title: "Master Key and Diagnostics", Path: masterKeyPage, Status: status}, masterKeyView(d, dialog))
}

// timesShown are the times that the form begins with: the master key's own, in
// whole hours, or what is proposed where it has none.
func timesShown(p vault.Properties) (life, reminder time.Duration) {
	life, reminder = 365*day, 30*day
	if !p.ExpireAt.IsZero() {
		life = min(max(p.ExpireAt.Sub(p.Created).Round(time.Hour), time.Hour), vault.MaxLifetime)
		reminder = min(reminder, life)
	}
	if !p.RemindAt.IsZero() {
		reminder = min(max(p.ExpireAt.Sub(p.RemindAt).Round(time.Hour), time.Hour), vault.MaxReminder)
	}
	return life, reminder
}

// setTime puts a time into its two fields, days and hours.
func setTime(f *Form, name string, d time.Duration) {
	f.values.Set(name, strconv.Itoa(int(d/day)))
	f.values.Set(name+"-hours", strconv.Itoa(int(d%day/time.Hour)))
}

// daysAndHours is a time in whole hours, for people.
func daysAndHours(d time.Duration) string {
	text := fmt.Sprintf("%d days", d/day)
	if hours := d % day / time.Hour; hours > 0 {
		text += fmt.Sprintf(" and %d hours", hours)
	}
	return text
}

// timeOf reads a time's two fields, of at least an hour; one that is empty is 0.
func timeOf(f *Form, name string, most int) time.Duration {
	if f.Text(name) == "" {
		f.values.Set(name, "0")
	}
	if f.Text(name+"-hours") == "" {
		f.values.Set(name+"-hours", "0")
	}
	least := 1
	if f.Text(name+"-hours") != "0" {
		least = 0
	}
	d := time.Duration(f.Number(name, least, most))*day + time.Duration(f.Number(name+"-hours", 0, 23))*time.Hour
	if most := time.Duration(most) * day; f.OK() && d > most {
		f.Fail(name, "%s, expected at most %s", daysAndHours(d), daysAndHours(most))
	}
	return d
}

// until is how long there is until a time, for people.
func until(now, at time.Time) string {
	left := at.Sub(now)
	switch {
	case at.IsZero():
		return "never"
	case left <= 0:
		return at.UTC().Format("2006-01-02 15:04 UTC") + ", which is over"
	case left < 2*day:
		return fmt.Sprintf("%s, in %d hours", at.UTC().Format("2006-01-02 15:04 UTC"), int(left.Hours()))
	}
	return fmt.Sprintf("%s, in %d days", at.UTC().Format("2006-01-02 15:04 UTC"), int(left/day))
}

func changeMasterKey(v *visit) error {
	f := v.form
	change := vault.Change{Current: f.Secret("current"), New: f.Secret("new")}
	again := f.Secret("confirm")
	officer := f.Secret("partition-password")
	for _, secret := range [][]byte{change.Current, change.New, again, officer} {
		defer clear(secret)
	}
	p, err := v.m().MasterKey(v.ctx(), v.who())
	if err != nil {
		return err
	}
	onHSM := f.Checked("on-hsm")
	if onHSM != p.OnHSM {
		change.OnHSM = &onHSM
	}
	switch n := len(change.New); {
	case n == 0 && change.OnHSM == nil && p.OnHSM == onHSM:
		keep := onHSM
		change.OnHSM = &keep // the times alone are changed
		change.New = nil
	case n == 0:
		change.New = nil
	case n < vault.MinMasterKey || n > vault.MaxMasterKey:
		f.Fail("new", "it has %d characters, expected %d to %d", n, vault.MinMasterKey, vault.MaxMasterKey)
	case string(again) != string(change.New):
		f.Fail("confirm", "it is not the same as the new master key")
	}
	life, reminder := timeOf(f, "lifetime", maxLifeDays), timeOf(f, "reminder", maxReminderDays)
	if f.OK() && reminder > life {
		f.Fail("reminder", "%s, expected at most the life time of %s", daysAndHours(reminder), daysAndHours(life))
	}
	change.Lifetime, change.Reminder, change.AutoRenew = life, reminder, p.Renewal
	if was, of := timesShown(p); change.New == nil && !p.ExpireAt.IsZero() && life == was && reminder == of {
		change.Lifetime, change.Reminder, change.AutoRenew = 0, 0, 0 // left as they are, to the second
	}
	if f.OK() {
		notes, err := v.m().ChangeMasterKey(v.ctx(), v.who(), change, officer)
		if err == nil {
			return v.done(masterKeyPage, strings.Join(append([]string{"The master key was changed. It is in use now; no commit is needed."}, notes...), "\n"))
		}
		if text := words(err); strings.Contains(text, "current master key") {
			f.Fail("current", "%s", text)
		} else {
			f.Add(text)
		}
	}
	return v.showMasterKey(http.StatusUnprocessableEntity, masterKeyForm, f)
}

func rotateWrappingKey(v *visit) error {
	officer := v.form.Secret("partition-password")
	defer clear(officer)
	done, err := v.m().RotateWrappingKey(v.ctx(), v.who(), officer)
	if err != nil {
		v.form.Add(words(err))
		return v.showMasterKey(http.StatusUnprocessableEntity, rotateForm, v.form)
	}
	said := "There is a new wrapping key on the HSM, " + done.Key + ". "
	if done.OnHSM {
		said += "The master key is wrapped by it; the old one is kept."
	} else {
		said += "It is used when the master key is stored on the HSM."
	}
	if len(done.Missing) > 0 {
		said += "\nThese members of the group lack it, or cannot be asked: " + strings.Join(done.Missing, ", ") + ". The old one counts, too, until they have it."
	}
	return v.done(masterKeyPage, said)
}

func recoverMasterKey(v *visit) error {
	given, officer := v.form.Secret("master-key"), v.form.Secret("partition-password")
	defer clear(given)
	defer clear(officer)
	notes, err := v.m().RecoverMasterKey(v.ctx(), v.who(), given, officer)
	if err != nil {
		v.form.Fail("master-key", "%s", words(err))
		return v.showMasterKey(http.StatusUnprocessableEntity, recoverForm, v.form)
	}
	return v.done(masterKeyPage, strings.Join(append([]string{"The master key was entered again: everything that is sealed opens."}, notes...), "\n"))
}
