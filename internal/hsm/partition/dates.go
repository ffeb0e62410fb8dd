package partition

import (
	"time"

	"moongate/internal/hsm/object"
)

// A key has a life of whole days in UTC: from the beginning of its
// CKA_START_DATE to the end of its CKA_END_DATE, either of which may be absent.
// PKCS#11 keeps the dates and leaves their meaning open; here they are obeyed.
//
// SP 800-57 part 1, section 5.3.5, tells a key's use to protect (sign, encrypt,
// wrap) from its use to process what was protected earlier (verify, decrypt,
// unwrap), which may go on for longer. One end date cannot say both, and the
// HSM cannot tell an old ciphertext from a new one: an RSA decryption may be a
// TLS handshake of today, and an unwrapped key begins to work today. So the
// end date stops everything but verification, which protects nothing anew. Who
// must read old data with an old key gives it a later end date, for the record.
//
// Before its start date a key does nothing at all. A key that is wrapped is not
// used: its dates do not keep it in, the wrapping key's do.

// life is when a key may be used: the beginnings of its first and its last
// day, where it has them.
type life struct {
	start, end       time.Time
	hasStart, hasEnd bool
}

func lifeOf(attrs object.Template) life {
	var l life
	l.start, l.hasStart = attrs.Date(object.AttrStartDate)
	l.end, l.hasEnd = attrs.Date(object.AttrEndDate)
	return l
}

const dayLayout = "2006-01-02"

// check refuses an action that a key does not do today.
func (l life) check(act action, now time.Time) error {
	if l.hasStart && now.Before(l.start) {
		return object.Errorf(object.ErrKeyDate, "the key may be used from %s%s, and today is %s (UTC); the Crypto Officer may change CKA_START_DATE",
			l.start.Format(dayLayout), l.until(), now.UTC().Format(dayLayout))
	}
	if act != actVerify && l.hasEnd && !now.Before(l.end.AddDate(0, 0, 1)) {
		return object.Errorf(object.ErrKeyDate, "the key may be used%s%s but to verify, and today is %s (UTC); the Crypto Officer may change CKA_END_DATE",
			l.since(), l.until(), now.UTC().Format(dayLayout))
	}
	return nil
}

func (l life) since() string {
	if !l.hasStart {
		return ""
	}
	return " from " + l.start.Format(dayLayout)
}

func (l life) until() string {
	if !l.hasEnd {
		return ""
	}
	return " to " + l.end.Format(dayLayout)
}

// checkDates refuses dates that leave no day.
func checkDates(attrs object.Template) error {
	l := lifeOf(attrs)
	if l.hasStart && l.hasEnd && l.end.Before(l.start) {
		return object.Errorf(object.ErrTemplateInconsist, "CKA_START_DATE is %s and CKA_END_DATE is %s, which is earlier; set them so that the key has a day",
			l.start.Format(dayLayout), l.end.Format(dayLayout))
	}
	return nil
}
