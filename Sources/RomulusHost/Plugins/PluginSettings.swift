/// Which plugins there are, and how long their callbacks may take.
public struct PluginSettings: Equatable, Sendable {
    /// Each a path, and behind its first space what the plugin makes of it.
    public var plugins: [String]
    public var timeoutMilliseconds: Int

    public init(plugins: [String] = [], timeoutMilliseconds: Int = 100) {
        self.plugins = plugins
        self.timeoutMilliseconds = timeoutMilliseconds
    }

    /// As the save helper finds it in its environment; nil where there are none.
    public var environmentValue: String? {
        plugins.isEmpty ? nil : (["\(timeoutMilliseconds)"] + plugins).joined(separator: "\n")
    }

    public init(environmentValue: String?) {
        let lines = (environmentValue ?? "").split(separator: "\n").map(String.init)
        self.init(
            plugins: Array(lines.dropFirst()), timeoutMilliseconds: lines.first.flatMap { Int($0) } ?? 100)
    }
}
