// Package sshd is an SSH server for appliances: password and public-key login,
// interactive and one-shot commands, and an exchange of named files by SFTP and
// the older SCP protocol. It has no shell of the machine's and no forwarding.
package sshd
