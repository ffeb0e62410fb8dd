// Package admin says who an administrator is and what each role may do:
// passwords, SSH keys, API keys, lock-outs, and the table of permissions.
package admin
