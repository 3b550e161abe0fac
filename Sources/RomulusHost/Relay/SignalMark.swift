extension Descriptor {
    /// The signal whose mark romulus_catch_signals has left here: the least usual where there are several.
    func takeSignalName() -> String? {
        let mark = drain()
        guard mark != 0 else { return nil }
        return mark >> 48 != 0 ? "SIGHUP" : mark >> 40 != 0 ? "SIGTERM" : "SIGINT"
    }
}
