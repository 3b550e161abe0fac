import Testing

@testable import RomulusCore

@Suite struct CRC32CTests {
    private func checksum(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes(CRC32C.checksum) }

    @Test func matchesTheVectorsOfRFC3720() {
        #expect(checksum([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(checksum([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(checksum(Array(0..<32)) == 0x46DD_794E)
        #expect(checksum(Array((0..<32).reversed())) == 0x113F_DB5C)
        #expect(checksum(Array("123456789".utf8)) == 0xE306_9283)
    }

    @Test func softwareAgreesWithTheInstructionAtEveryLengthAndOffset() {
        var random = Seeded(1)
        let bytes = random.bytes(600)
        for _ in 0..<500 {
            let start = Int.random(in: 0..<300, using: &random)
            let end = Int.random(in: start...600, using: &random)
            bytes.withUnsafeBytes { raw in
                let part = UnsafeRawBufferPointer(rebasing: raw[start..<end])
                #expect(~CRC32C.software(~0, part) == CRC32C.checksum(part), "\(start)..<\(end)")
            }
        }
    }

    @Test func piecesGiveTheSumOfTheWhole() {
        var random = Seeded(2)
        let bytes = random.bytes(1000)
        for cut in stride(from: 0, through: 1000, by: 7) {
            var crc = CRC32C()
            bytes.withUnsafeBytes {
                crc.update(UnsafeRawBufferPointer(rebasing: $0[..<cut]))
                crc.update(UnsafeRawBufferPointer(rebasing: $0[cut...]))
            }
            #expect(crc.value == checksum(bytes))
        }
    }

    @Test func aPageOfZeroesNeedNotBeRead() {
        var random = Seeded(3)
        let zeroes = [UInt8](repeating: 0, count: 4096)
        for length in 0..<40 {
            var read = CRC32C()
            random.bytes(length).withUnsafeBytes { read.update($0) }
            var known = read
            zeroes.withUnsafeBytes { read.update($0) }
            known.updateZeroPage()
            #expect(known.value == read.value)
        }
    }
}
