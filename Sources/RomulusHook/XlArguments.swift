/// What xl was called with, where libxl is not told.
struct XlArguments {
    /// Whether `xl remus` was given `-i`.
    private(set) var hasInterval = false
    /// The guest, and the host that it was given.
    private(set) var operands: [String] = []

    static let own = XlArguments(CommandLine.arguments)

    var host: String? { operands.count > 1 ? operands[1] : nil }

    /// As xl's own getopt reads them: options with a value are i, s and N, and `--` ends them.
    init(_ arguments: [String]) {
        guard let command = arguments.dropFirst().firstIndex(where: { !$0.hasPrefix("-") }) else { return }
        var rest = arguments[(command + 1)...]
        while let word = rest.popFirst() {
            if word == "--" {
                operands += rest
                return
            }
            // GNU getopt takes options behind other words too.
            guard word.hasPrefix("-"), word.count > 1 else {
                operands.append(word)
                continue
            }
            guard let option = word.firstIndex(where: { "isN".contains($0) }) else { continue }
            if word[option] == "i" { hasInterval = true }
            if word.index(after: option) == word.endIndex { _ = rest.popFirst() }
        }
    }
}
