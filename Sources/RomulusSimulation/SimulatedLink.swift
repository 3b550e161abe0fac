import RomulusCore

/// One direction: bytes in order, late but never lost while the connection lives, as TCP has it.
struct SimulatedLink {
    private struct Chunk {
        var bytes: [UInt8]
        var arrivesAt: Int64
    }

    private var chunks: [Chunk] = []
    var isCut = false
    /// The connection is gone: what has not arrived never will, and the receiver is told.
    private(set) var isBroken = false
    var corruptsNext = false

    mutating func send(_ bytes: [UInt8], at time: Int64) {
        guard !isBroken else { return }
        chunks.append(Chunk(bytes: bytes, arrivesAt: max(time, chunks.last?.arrivesAt ?? 0)))
    }

    mutating func breakNow() {
        isBroken = true
        chunks = []
    }

    /// What waits behind a cut arrives after the healing.
    mutating func heal(at time: Int64) {
        isCut = false
        for index in chunks.indices { chunks[index].arrivesAt = max(chunks[index].arrivesAt, time) }
    }

    mutating func receive(at time: Int64, damage: (inout [UInt8]) -> Void) -> [[UInt8]] {
        guard !isCut else { return [] }
        let count = chunks.firstIndex { $0.arrivesAt > time } ?? chunks.count
        defer { chunks.removeFirst(count) }
        return chunks.prefix(count).map { chunk in
            guard corruptsNext else { return chunk.bytes }
            corruptsNext = false
            var bytes = chunk.bytes
            damage(&bytes)
            return bytes
        }
    }
}
