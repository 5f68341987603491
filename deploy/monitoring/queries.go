// Package monitoring holds what people look at, the Grafana dashboard and the
// alerts of Prometheus, against what the binary exports.
package monitoring

import (
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// Exported is what a process exports: the values of each label, by series' name.
type Exported map[string]map[string][]string

// fromScrape are the labels that Prometheus puts there itself.
var fromScrape = []string{"job", "instance", "namespace", "pod"}

// ReadExported reads an answer of /metrics.
func ReadExported(r io.Reader) (Exported, error) {
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(r)
	if err != nil {
		return nil, err
	}
	e := Exported{"up": {}}
	for name, family := range families {
		names, extra := []string{name}, ""
		if family.GetType() == dto.MetricType_HISTOGRAM {
			names, extra = []string{name + "_bucket", name + "_sum", name + "_count"}, "le"
		}
		for _, name := range names {
			e[name] = make(map[string][]string)
			if extra != "" && strings.HasSuffix(name, "_bucket") {
				e[name][extra] = nil
			}
			for _, metric := range family.GetMetric() {
				for _, pair := range metric.GetLabel() {
					e[name][pair.GetName()] = append(e[name][pair.GetName()], pair.GetValue())
				}
			}
		}
	}
	return e, nil
}

// Check returns what is wrong with a query: its syntax, or a series, label or
// value that does not exist. Names of values in a regular expression have to be
// written out, with | between them.
func (e Exported) Check(query string) []string {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	labelsOf := make(map[string]bool) // of all series in it
	for _, label := range fromScrape {
		labelsOf[label] = true
	}
	var groupings []string
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch node := node.(type) {
		case *parser.VectorSelector:
			wrong = append(wrong, e.selector(node)...)
			for label := range maps.Keys(e[node.Name]) {
				labelsOf[label] = true
			}
		case *parser.AggregateExpr:
			groupings = append(groupings, node.Grouping...)
		}
		return nil
	})
	for _, label := range groupings {
		if !labelsOf[label] {
			wrong = append(wrong, fmt.Sprintf("by %s, which no series of it has", label))
		}
	}
	return wrong
}

func (e Exported) selector(s *parser.VectorSelector) []string {
	known, exists := e[s.Name]
	if !exists {
		return []string{fmt.Sprintf("series %s does not exist", s.Name)}
	}
	var wrong []string
	for _, m := range s.LabelMatchers {
		if m.Name == model.MetricNameLabel || slices.Contains(fromScrape, m.Name) {
			continue
		}
		values, has := known[m.Name]
		if !has {
			wrong = append(wrong, fmt.Sprintf("%s has no label %s", s.Name, m.Name))
			continue
		}
		for value := range strings.SplitSeq(m.Value, "|") {
			if !slices.Contains(values, value) {
				wrong = append(wrong, fmt.Sprintf("%s never has %s=%q", s.Name, m.Name, value))
			}
		}
	}
	return wrong
}

// shown are the labels that a text shows.
var shown = regexp.MustCompile(`\$labels\.(\w+)`)

// CheckText returns the labels that a text shows and a query's result has not.
func (e Exported) CheckText(query, text string) []string {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	has := e.labels(expr)
	for _, found := range shown.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(has, found[1]) {
			wrong = append(wrong, fmt.Sprintf("shows the label %s, which the result lacks", found[1]))
		}
	}
	return wrong
}

// labels are those that an expression's result may have.
func (e Exported) labels(node parser.Node) []string {
	switch node := node.(type) {
	case *parser.AggregateExpr:
		return node.Grouping
	case *parser.VectorSelector:
		return slices.AppendSeq(slices.Clone(fromScrape), maps.Keys(e[node.Name]))
	case *parser.BinaryExpr:
		if m := node.VectorMatching; m != nil && node.Op != parser.LOR { // of two sides, and not the labels of both
			switch {
			case m.Card == parser.CardOneToMany:
				return e.labels(node.RHS)
			case m.Card == parser.CardOneToOne && m.On:
				return m.MatchingLabels
			}
			return e.labels(node.LHS)
		}
	}
	var has []string
	for child := range parser.ChildrenIter(node) {
		has = append(has, e.labels(child)...)
	}
	return has
}
