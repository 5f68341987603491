package topics
func init() { debugf = func(f string, a ...any) { if dbgModel != nil { dbgModel.note(f, a...) } } }
var dbgModel *historyModel
