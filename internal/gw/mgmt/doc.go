// Package mgmt is the one door to a gateway's management: the command line,
// the XML API and the web UI call it, and nothing behind it. Every method says
// first whether its caller may, and writes down what it changed or refused.
//
// A method takes the context and the [Caller]; an error that a program tells
// apart is an [Error] with one of the codes that the XML API has.
package mgmt
