/// What xl was called with, where libxl is not told.
enum XlArguments {
    /// Whether `xl remus` was given `-i`.
    static var hasInterval: Bool { hasInterval(CommandLine.arguments) }

    /// As xl's own getopt reads them: options with a value are i, s and N, and `--` ends them.
    static func hasInterval(_ arguments: [String]) -> Bool {
        guard let command = arguments.dropFirst().firstIndex(where: { !$0.hasPrefix("-") }) else { return false }
        var rest = arguments[(command + 1)...]
        while let word = rest.popFirst() {
            if word == "--" { return false }
            // GNU getopt takes options behind other words too.
            guard word.hasPrefix("-"), word.count > 1 else { continue }
            guard let option = word.firstIndex(where: { "isN".contains($0) }) else { continue }
            if word[option] == "i" { return true }
            if word.index(after: option) == word.endIndex { _ = rest.popFirst() }
        }
        return false
    }
}
