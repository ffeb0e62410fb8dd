module pango-peer

go 1.26

require github.com/PaloAltoNetworks/pango v0.10.2
