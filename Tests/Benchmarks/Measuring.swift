import Glibc

/// Zeroed memory, aligned to pages, that lives as long as the program.
func memory(_ byteCount: Int) -> UnsafeMutableRawBufferPointer {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 4096)
    memory.initializeMemory(as: UInt8.self, repeating: 0)
    return memory
}

/// The best of some runs, in seconds: what else the machine does only ever makes one longer.
func shortest(runs: Int = 7, _ work: () -> Void) -> Double {
    work()
    var best = Double.infinity
    for _ in 0..<runs {
        let start = ContinuousClock.now
        work()
        let (seconds, attoseconds) = (ContinuousClock.now - start).components
        best = min(best, Double(seconds) + Double(attoseconds) * 1e-18)
    }
    return best
}

/// SplitMix64.
struct Numbers: RandomNumberGenerator {
    private var state: UInt64
    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

func number(_ value: Double, _ digits: Int) -> String {
    var text = ""
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = (value * scale).rounded()
    let whole = Int(scaled / scale)
    text = "\(whole)"
    guard digits > 0 else { return text }
    let rest = "\(Int(scaled) - whole * Int(scale))"
    return text + "." + String(repeating: "0", count: digits - rest.count) + rest
}

/// Rows under their heads, numbers to the right.
func printTable(_ title: String, _ heads: [String], _ rows: [[String]]) {
    let widths = heads.indices.map { column in ([heads] + rows).map { $0[column].count }.max()! }
    func line(_ cells: [String]) -> String {
        let padded = cells.enumerated().map { column, cell in
            let space = String(repeating: " ", count: widths[column] - cell.count)
            return column == 0 ? cell + space : space + cell
        }
        return "| " + padded.joined(separator: " | ") + " |"
    }
    print("\n\(title)\n\n" + line(heads))
    print(
        "|"
            + widths.enumerated().map { String(repeating: "-", count: $1 + 1) + ($0 == 0 ? "-" : ":") }.joined(
                separator: "|") + "|")
    for row in rows { print(line(row)) }
}
