import Foundation

/// Zeroed memory, aligned to pages, that lives as long as the program.
func memory(_ byteCount: Int) -> UnsafeMutableRawBufferPointer {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 4096)
    memory.initializeMemory(as: UInt8.self, repeating: 0)
    return memory
}

/// How long that takes.
func seconds(_ work: () -> Void) -> Double { ContinuousClock().measure(work) / .seconds(1) }

/// The best of some runs, in seconds: what else the machine does only ever makes one longer.
func shortest(runs: Int = 7, _ work: () -> Void) -> Double {
    work()
    var best = Double.infinity
    for _ in 0..<runs {
        best = min(best, seconds(work))
    }
    return best
}

func number(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }

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
