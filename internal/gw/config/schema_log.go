package config

const syslogPath = logSettingsPath + "/syslog"

// allLogs is the filter that every record passes.
const allLogs = "All Logs"

const logSettingsPath = SharedPath + "/log-settings"

// logNames are the logs that are kept and forwarded.
var logNames = []string{"system", "config", "traffic", "decryption"}

// logSettingsTable is shared/log-settings: what is sent to whom.
func logSettingsTable() *element {
	e := container("log-settings", "where logs are forwarded to",
		entries("syslog", "a group of syslog servers; each gets every record", objectName(63),
			entries("server", "a syslog server (RFC 5424)", objectName(63),
				leaf("server", "where it is", host()).need(),
				leaf("transport", "how records get there; SSL: TLS (RFC 5425)", oneWord("UDP", "TCP", "SSL")).or("UDP"),
				leaf("port", "its port; absent: 514, with SSL 6514", port()),
				leaf("facility", "the facility of the records", oneWord("LOG_USER", "LOG_LOCAL0", "LOG_LOCAL1", "LOG_LOCAL2",
					"LOG_LOCAL3", "LOG_LOCAL4", "LOG_LOCAL5", "LOG_LOCAL6", "LOG_LOCAL7")).or("LOG_USER"),
				leaf("format", "the form of a record: IETF is RFC 5424", oneWord("IETF").except("BSD")).or("IETF"),
				leaf("server-ca", "the CA that an SSL server's certificate must be of; absent: one that the system trusts", nameIn(certificatesPath)),
			),
			container("format", "records of another form").await(),
		),
	)
	for _, log := range logNames {
		e.children = append(e.children, container(log, "the "+log+" log",
			entries("match-list", "which records are forwarded where", objectName(63),
				leaf("filter", "which records, in the language of log filters; "+allLogs+" for each", text(1023)).or(allLogs),
				members("send-syslog", "groups of syslog servers", nameIn(syslogPath)).or("none"),
				leaf("description", "for people", text(1023)).note(),
				members("send-snmptrap", "SNMP managers", objectName(63)).await(),
				members("send-email", "mailboxes", objectName(63)).await(),
				members("send-http", "web servers", objectName(63)).await(),
				leaf("send-to-panorama", "a central manager", yesNo()).await(),
			),
		))
	}
	return e
}
