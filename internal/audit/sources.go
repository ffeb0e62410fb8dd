package audit

import (
	"errors"
	"fmt"
	"path/filepath"
)

// sources finds what a verification reads: the segments in the directories,
// the log's own first, in order, and the tree before the first of them.
func (v *verification) sources(dirs []string) ([]segmentFile, frontier, error) {
	byNumber := map[int]segmentFile{}
	last := -1
	var boundaries []*boundary
	for _, dir := range dirs {
		files, err := findSegments(dir)
		if err != nil {
			return nil, frontier{}, err
		}
		for _, f := range files {
			if _, twice := byNumber[f.number]; !twice {
				byNumber[f.number] = f
			}
			last = max(last, f.number)
		}
		b, err := readBoundary(dir, v.verifier)
		if wrong := (*boundaryError)(nil); errors.As(err, &wrong) {
			v.find(-1, -1, fmt.Sprintf("%s: %v", filepath.Join(dir, archivedName), wrong))
			continue
		} else if err != nil {
			return nil, frontier{}, err
		}
		if b != nil {
			boundaries = append(boundaries, b)
		}
	}
	first, start := v.beginning(byNumber, boundaries)
	var files []segmentFile
	for number := first; number <= last; number++ {
		if f, there := byNumber[number]; there {
			files = append(files, f)
		} else {
			// Its records will be found missing, one by one.
			v.warn("%s is missing", segmentName(number))
		}
	}
	return files, start, nil
}

// beginning chooses the first segment to be read. Where the first of all is
// not there, a frontier must speak for what was before: that of the latest
// boundary before which nothing is here, or, of a copy that was made while
// segments were moved away, the earliest other.
func (v *verification) beginning(byNumber map[int]segmentFile, boundaries []*boundary) (int, frontier) {
	lowest := -1
	for number := range byNumber {
		if lowest < 0 || number < lowest {
			lowest = number
		}
	}
	if lowest == 0 {
		return 0, frontier{}
	}
	var before, after *boundary
	for _, b := range boundaries {
		if (b.segment <= lowest || lowest < 0) && (before == nil || b.segment > before.segment) {
			before = b
		} else if b.segment > lowest && lowest >= 0 && (after == nil || b.segment < after.segment) {
			after = b
		}
	}
	switch {
	case before != nil:
		return before.segment, before.tree
	case after != nil:
		v.warn("segments before %s are not looked at: there is no frontier for them", segmentName(after.segment))
		return after.segment, after.tree
	default:
		return 0, frontier{}
	}
}
