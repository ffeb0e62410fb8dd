// Package logstore keeps a gateway's logs in one database: traffic,
// decryption, system and configuration, to be asked by filter and time.
package logstore
