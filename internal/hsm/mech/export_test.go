package mech

// KWPWrap lets the tests wrap what no key of this package is.
var KWPWrap = kwpWrap
