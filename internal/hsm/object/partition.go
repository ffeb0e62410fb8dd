package object

// PartitionInfo is what a client may know of a partition before its login.
type PartitionInfo struct {
	Label  string
	Serial string
}

// Found is one object of a search: its identity and those of its attributes
// that were asked for.
type Found struct {
	ID         ID
	Attributes Template
}
