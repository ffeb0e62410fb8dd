package settings

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// entry is one key with its default, as it stands in the file.
type entry struct {
	section, sectionHelp string
	key, value, help     string
}

// entries lists every key, in the order of the struct, which is the manual's.
func entries() []entry {
	var list []entry
	defaults := reflect.ValueOf(Default())
	for _, section := range reflect.VisibleFields(defaults.Type()) {
		in := defaults.FieldByIndex(section.Index)
		for _, field := range reflect.VisibleFields(section.Type) {
			value := in.FieldByIndex(field.Index)
			text := fmt.Sprint(value.Interface())
			if value.Kind() == reflect.String {
				text = strconv.Quote(text)
			}
			list = append(list, entry{
				section: section.Tag.Get("toml"), sectionHelp: section.Tag.Get("help"),
				key: field.Tag.Get("toml"), value: text, help: field.Tag.Get("help"),
			})
		}
	}
	return list
}

func keys() []string {
	var names []string
	for _, e := range entries() {
		names = append(names, e.section+"."+e.key)
	}
	return names
}

// Manual returns a file with every key at its default, each with its meaning.
func Manual() string {
	var b strings.Builder
	section := ""
	for _, e := range entries() {
		if e.section != section {
			fmt.Fprintf(&b, "\n# %s\n[%s]\n", e.sectionHelp, e.section)
			section = e.section
		}
		for _, line := range wrap(e.help, 90) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		fmt.Fprintf(&b, "%s = %s\n", e.key, e.value)
	}
	return strings.TrimPrefix(b.String(), "\n")
}

// wrap breaks a text into lines of at most width characters.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
