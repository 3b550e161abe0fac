import Testing

@testable import RomulusCore

@Suite struct StagingTests {
    @Test func theRingBehavesLikeAQueueOfBytes() {
        for seed in UInt64(0)..<50 {
            var random = Seeded(seed)
            let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 97, alignment: 1)
            defer { storage.deallocate() }
            var ring = StagingRing(storage: storage)
            var model: [UInt8] = []
            for _ in 0..<400 {
                if Bool.random(using: &random) {
                    let bytes = random.bytes(Int.random(in: 0...ring.freeBytes, using: &random))
                    write(bytes, into: &ring)
                    model += bytes
                } else {
                    let count = Int.random(in: 0...ring.storedBytes, using: &random)
                    ring.didRead(count)
                    model.removeFirst(count)
                }
                let (first, second) = ring.storedParts()
                #expect(Array(first) + Array(second) == model, "seed \(seed)")
                #expect(ring.freeBytes == 97 - model.count)
            }
        }
    }

    @Test func aStreamGoesThroughRingAndUnitsUnchangedWithItsLandmarksInPlace() throws {
        for seed in UInt64(0)..<40 {
            var random = Seeded(seed)
            let epochs = (0..<3).map { _ in Sample.epoch(pages: Int.random(in: 0...3, using: &random)) }
            var input = Sample.head + epochs.joined()
            let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 9000, alignment: 1)
            defer { storage.deallocate() }
            var ring = StagingRing(storage: storage)
            var outgoing = OutgoingStream()
            var incoming = IncomingStream()
            var output: [UInt8] = []
            var ends: [Int] = []
            var landmarks: [OutgoingStream.Landmark] = []
            var incomingEnds = 0
            while !input.isEmpty || ring.storedBytes > 0 {
                let take = min(input.count, Int.random(in: 0...ring.freeBytes, using: &random))
                write(Array(input.prefix(take)), into: &ring)
                input.removeFirst(take)
                guard let unit = try outgoing.nextUnit(of: ring) else { continue }
                let (first, second) = ring.storedParts(limit: unit.payloadBytes)
                let bytes = Array(first) + Array(second)
                ring.didRead(unit.payloadBytes)
                output += bytes
                if let landmark = unit.landmark { landmarks.append(landmark) }
                if case .checkpointEnd? = unit.landmark { ends.append(output.count) }
                try bytes.withUnsafeBytes { raw in
                    var offset = 0
                    while offset < raw.count {
                        let step = try incoming.advance(over: UnsafeRawBufferPointer(rebasing: raw[offset...]))
                        offset += step.passedBytes
                        if case .epochEnd? = step.landmark { incomingEnds += 1 }
                    }
                }
            }
            #expect(output == Sample.head + epochs.joined(), "seed \(seed)")
            #expect(landmarks.first == .headersEnd)
            #expect(landmarks.filter { $0 == .firstCheckpoint }.count == 1)
            #expect(incomingEnds == 3)
            #expect(ends.last == output.count)
        }
    }

    @Test func framesBeginOnlyBetweenRecordsBeforeTheFirstCheckpoint() throws {
        let stream = Sample.head + Sample.record(8, [1]) + Sample.epoch(pages: 1) + Sample.epoch(pages: 1)
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 1)
        defer { storage.deallocate() }
        var ring = StagingRing(storage: storage)
        write(stream, into: &ring)
        var outgoing = OutgoingStream()
        outgoing.isLookingForRecordBoundary = true
        var found: [OutgoingStream.Landmark] = []
        while let unit = try outgoing.nextUnit(of: ring) {
            ring.didRead(unit.payloadBytes)
            if let landmark = unit.landmark { found.append(landmark) }
        }
        let first = try #require(found.firstIndex(of: .firstCheckpoint))
        #expect(found[..<first].contains(.recordBoundary))
        #expect(!found[first...].contains(.recordBoundary))
    }

    @Test func anEpochBufferNeverGrowsBeyondItsMemory() throws {
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 110, alignment: 1)
        defer { storage.deallocate() }
        storage.initializeMemory(as: UInt8.self, repeating: 0xEE)
        var buffer = EpochBuffer(storage: UnsafeMutableRawBufferPointer(rebasing: storage[0..<100]))
        let bytes = [UInt8](repeating: 1, count: 60)
        try bytes.withUnsafeBytes { try buffer.append($0) }
        #expect(throws: StreamError.epochTooLong(limitBytes: 100)) {
            try bytes.withUnsafeBytes { try buffer.append($0) }
        }
        #expect(storage[100...].allSatisfy { $0 == 0xEE })
        #expect(buffer.filledBytes == 60)
    }

    @Test func aStreamingBufferThatIsNeverCaughtUpWithLosesNothing() throws {
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 1)
        defer { storage.deallocate() }
        var buffer = EpochBuffer(storage: storage)
        buffer.isReleased = true
        var random = Seeded(4)
        var sent: [UInt8] = []
        var handedOn: [UInt8] = []
        for _ in 0..<200 {
            let piece = random.bytes(Int.random(in: 1...20, using: &random))
            try piece.withUnsafeBytes { try buffer.append($0) }
            sent += piece
            // Always leaves something, so that the buffer never starts over by itself.
            let count = max(0, buffer.waiting.count - Int.random(in: 1...20, using: &random))
            handedOn += buffer.waiting.prefix(count)
            buffer.didHandOn(count)
        }
        #expect(handedOn + Array(buffer.waiting) == sent)
    }

    @Test func aStreamingBufferIsUsedFromItsBeginningAgain() throws {
        let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 16, alignment: 1)
        defer { storage.deallocate() }
        var buffer = EpochBuffer(storage: storage)
        for _ in 0..<10 {
            try [UInt8](repeating: 9, count: 12).withUnsafeBytes { try buffer.append($0) }
            buffer.didHandOn(12)
        }
        #expect(buffer.filledBytes == 0)
    }
}
