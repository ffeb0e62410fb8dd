package config

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Secrets are held sealed, and what seals them is not known here, only its
// form: sealedPrefix, then base64url.
const (
	sealedPrefix = "-AQ=="
	maxSealed    = 96 << 10 // bytes of text
)

// isSealed reports whether a text has the form of a sealed secret.
func isSealed(s string) bool {
	digits, ok := strings.CutPrefix(s, sealedPrefix)
	if !ok || digits == "" || len(s) > maxSealed {
		return false
	}
	for i := range len(digits) {
		if c := digits[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// sealedSecret is a secret that was sealed before it came here: what is not is
// refused, so that none is ever kept as it is.
func sealedSecret(what string) *value {
	return &value{
		doc:    what + ", sealed by this gateway",
		secret: true, masked: true,
		find: func(s string) string {
			switch {
			case s == masked:
				return "a masked secret, which says nothing"
			case !isSealed(s):
				return "not sealed"
			}
			return ""
		},
	}
}

// phcArgon2id is a password's hash in the form of the Password Hashing
// Competition: memory in KiB, passes, lanes, salt, tag.
var phcArgon2id = regexp.MustCompile(`^\$argon2id\$v=19\$m=([0-9]{1,7}),t=([0-9]{1,2}),p=([0-9]{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}$`)

// passwordHash is a password's Argon2id hash, of a cost that a login may have.
func passwordHash() *value {
	const mostMemory, mostPasses, mostLanes = 1 << 20, 16, 16 // 1 GiB
	return &value{
		doc:    "a password's Argon2id hash, $argon2id$v=19$m=…,t=…,p=…$…$…",
		secret: true, masked: true,
		find: func(s string) string {
			if s == masked {
				return "a masked hash, which says nothing"
			}
			found := phcArgon2id.FindStringSubmatch(s)
			if found == nil {
				return "not a hash"
			}
			for i, most := range []int{mostMemory, mostPasses, mostLanes} {
				if n, ok := decimal(found[i+1]); !ok || n < 1 || n > most {
					return "a hash that costs too much or nothing"
				}
			}
			return ""
		},
	}
}

// accountName is what an administrator logs in as.
func accountName() *value {
	const length = 31
	return &value{
		doc: fmt.Sprintf("1 to %d letters, digits, dots, hyphens and underscores of ASCII, the first a letter or underscore", length),
		find: finder("not an account's name", func(s string) bool {
			if s == "" || len(s) > length || s[0] != '_' && (lower(s[0]) < 'a' || lower(s[0]) > 'z') {
				return false
			}
			for i := range len(s) {
				if !isAlphanumeric(s[i]) && !strings.ContainsRune("._-", rune(s[i])) {
					return false
				}
			}
			return true
		}),
	}
}

// Bounds on an account's keys.
const (
	maxPublicKeys     = 16
	maxPublicKeysSize = 64 << 10 // bytes
)

// publicKeys are SSH public keys, as in an authorized_keys file.
func publicKeys() *value {
	return &value{
		doc:    "SSH public keys, one a line, as in an .pub file, or that in base64",
		secret: true, // somebody will put a private key here
		find: func(s string) string {
			_, wrong := parsePublicKeys(s)
			return wrong
		},
	}
}

// parsePublicKeys returns the keys as lines of an authorized_keys file, without
// options. API clients send them in base64.
func parsePublicKeys(s string) ([]string, string) {
	if len(s) > maxPublicKeysSize {
		return nil, fmt.Sprintf("more than %d bytes", maxPublicKeysSize)
	}
	if raw, err := base64.StdEncoding.DecodeString(s); err == nil {
		s = string(raw)
	}
	var keys []string
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(keys) == maxPublicKeys {
			return nil, fmt.Sprintf("more than %d keys", maxPublicKeys)
		}
		key, comment, options, _, err := ssh.ParseAuthorizedKey([]byte(line))
		switch {
		case err != nil:
			return nil, fmt.Sprintf("not a key on line %d", len(keys)+1)
		case len(options) > 0:
			return nil, fmt.Sprintf("options, which are not supported, at key %d", len(keys)+1)
		case !isText(comment) || strings.ContainsFunc(comment, isControl):
			return nil, fmt.Sprintf("a control character in the comment of key %d", len(keys)+1)
		}
		if strings.HasPrefix(key.Type(), "ssh-dss") || strings.Contains(key.Type(), "-cert-") {
			return nil, fmt.Sprintf("a kind of key that is not supported, at key %d", len(keys)+1)
		}
		keys = append(keys, strings.TrimSpace(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))+" "+comment))
	}
	if len(keys) == 0 {
		return nil, "no key"
	}
	return keys, ""
}
