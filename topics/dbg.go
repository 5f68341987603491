package topics
var debugf = func(string, ...any) {}
