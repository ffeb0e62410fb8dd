// Package ha uses several network HSMs as one: a Group of two to sixteen
// partitions that hold the same objects, each on another HSM.
//
//	config, err := ha.Load("client.toml")
//	config.SetRole(client.RoleCryptoUser, askPassword)
//	g, err := ha.Open(config)
//	key, err := g.FindKeyByLabel(ctx, "web")
//
// A Group has the methods of a client.Client that act on keys and objects, and
// a key of it is a client.Key. Calls that only use or read (signatures among
// them) go to the member with the least outstanding work, and elsewhere when it
// fails or is slow: while one good member is left the application sees no error.
// Calls that change something go to one member and are copied to the others
// before they succeed; what did not go everywhere is told (PartialError,
// PendingError).
//
// Members return by themselves when they can be reached again, and serve those
// keys of which they hold the same as the others; what they missed is brought to
// them in the background where the Group is the Crypto Officer. docs/ha.md says
// what is promised, and what is not.
//
// Keys never pass through this package: a member seals them for another
// (docs/replication.md), and the Group carries the sealed bytes.
package ha
