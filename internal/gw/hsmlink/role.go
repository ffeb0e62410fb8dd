package hsmlink

import "moongate/client"

// Roles that the gateway may log in as.
const (
	CryptoOfficer = client.RoleCryptoOfficer
	CryptoUser    = client.RoleCryptoUser
)
